"""A second factor for staff: one-time codes by django-otp, and recovery codes.

A separate app, installed only if the setting SECOND_FACTOR is not "off". It needs the extra
`second-factor`. No other code imports it.
"""
