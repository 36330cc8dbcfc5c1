"""The command line tools `emm`, `emm-verify` and `emm-inspect`, thin over public names of `emm` and `emm_engine`."""
