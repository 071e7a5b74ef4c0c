"""Budget forcing: what is asked (`budget`), what happens token by token (`state`), and drivers."""
