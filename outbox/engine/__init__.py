"""What keeps the promise: each event delivered to each handler, with at most one effect.

`relay` turns events into deliveries (`fan_out`) and sends what is due (`lanes`); `delivery` runs a
handler, `settlement` decides what becomes of one that was not done. The rules that they follow are
pure functions in `decisions`.
"""
