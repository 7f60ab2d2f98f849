"""Template tags of the e-mails."""
