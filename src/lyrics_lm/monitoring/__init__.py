"""Whether what people ask has changed: signals of a prompt, detectors of drift, what follows from an alarm. Pure."""
