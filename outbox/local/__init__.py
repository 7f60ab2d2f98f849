"""Processes of `manage.py outbox work`: each relays and delivers, without a broker."""
