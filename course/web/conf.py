"""The settings of Sphinx. What depends on the build is given by `course/web/__main__.py`."""

project = "Transformer layers, three times"
language = "en"
extensions = ["myst_nb", "course.web.extension"]
html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_math_renderer = "mathml"

pygments_dark_style = "github-dark"  # the theme's own underlines names of modules like links

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

myst_enable_extensions = ["deflist", "dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto", "page")
myst_links_external_new_tab = False
