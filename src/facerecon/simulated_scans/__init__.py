"""facerecon-bench: subjects with known geometry, written as FRGC writes its own."""
