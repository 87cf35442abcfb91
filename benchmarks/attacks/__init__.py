"""What an attacker tries who has nothing but accounts, and what it tells them."""
