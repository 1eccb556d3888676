"""``kdedge bench``: networks timed beside each other, with the conditions."""
