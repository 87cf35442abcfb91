"""What users who come once leave behind: in the scheduler, in an HTTP process, on a server."""
