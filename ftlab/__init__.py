"""ftlab: which fine-tuning strategy should I use for medical images, and what does it change?"""

__version__ = "0.1.0"
