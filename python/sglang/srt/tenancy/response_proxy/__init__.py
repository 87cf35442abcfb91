"""The response cache in front of an engine that is not ours: any server of OpenAI's API."""
