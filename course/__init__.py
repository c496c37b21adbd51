"""How the course is published: its plan, its projects, and the website (`python -m course.web`)."""
