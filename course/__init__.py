"""How the course is published: its plan, its projects, the website, and the lessons in a browser (`python -m course.browser`)."""
