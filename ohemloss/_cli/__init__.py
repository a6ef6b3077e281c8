"""The command line. It is the only part that needs the extra `cli`, and nothing else imports it."""
