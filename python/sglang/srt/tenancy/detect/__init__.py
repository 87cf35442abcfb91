"""What a prompt says about somebody: found here, in a process of its own, beside the requests."""
