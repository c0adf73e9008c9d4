"""Every number of an experiment, validated; `presets/*.yaml` holds the presets that come with the library."""
