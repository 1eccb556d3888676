"""The whole story on demo data: from ten people's photographs to an int8 student, measured. Needs the ``train`` extra."""
