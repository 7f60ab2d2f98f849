"""A second factor for staff: one-time codes by django-otp, and recovery codes.

An app of its own, installed only where the setting SECOND_FACTOR is not "off"; it needs the extra
`second-factor`. Nothing else imports it.
"""
