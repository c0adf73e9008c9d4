"""What every page is made of: templates, style and scripts, their filling, figures, and tables of measures."""
