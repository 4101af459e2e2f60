"""From a bundle to a Bento: the one home of BentoML's stores and builds."""
