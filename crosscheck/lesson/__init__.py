"""What the lessons use, and what makes and checks them."""
