"""Which sessions share which prefix, what of it the server holds, and what that saves."""
