#: Events per order for the quick queue alone, so that it has work for seconds, too.
NOTED_BESIDE = 20
