"""How the course is published: its plan, its projects, the website (`python -m course.web`), and the lessons in a browser."""
