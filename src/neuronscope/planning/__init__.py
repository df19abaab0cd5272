"""What a run will take, before it is paid for: requests, tokens, dollars, time, disk and memory."""
