"""The API: what HTTP clients see of the service. `app` puts it together, `operations` lists every call."""
