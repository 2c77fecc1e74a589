"""Processes of one machine that work together: started, ended, and heard; imports the ground floor.

A process of it imports no more than its own work needs.
"""
