"""The command line: ``hessfast --help``."""
