#: Events beside each order that only the quick queue hears, so that it has work for seconds, too.
NOTED_BESIDE = 20
