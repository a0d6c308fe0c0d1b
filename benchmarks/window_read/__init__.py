"""Reading the windows of one entity online, with more and more events in them."""
