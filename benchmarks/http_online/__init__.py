"""Fifty features of five groups over HTTP: a server on one core, wrk on another."""
