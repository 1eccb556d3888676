"""``kdedge serve``: a classifier behind HTTP. Needs the extra ``serve``, except for :mod:`kdedge.runtime.server.settings`."""
