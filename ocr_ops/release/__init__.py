"""From a pair of bundles to the champion being served: package, gate, sign, promote, remember."""
