"""Ask or recommend: what to say next to somebody whose wish is not known yet."""
