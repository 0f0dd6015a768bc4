"""SegNet, its decoder variants, and the networks that it is measured against (Badrinarayanan et al. 2017)."""
