"""``kdedge report``: a run as one page of HTML."""
