"""What happened, in numbers that cost the same however much is stored: totals, minutes, rates."""
