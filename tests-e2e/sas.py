"""SAS tokens and derived keys by the documentation, independent of the code under test."""

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, unquote


def sign(key, text):
    """base64 of the HMAC-SHA256 of `text` under a base64 key."""
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def token(resource, key, lifetime=3600, policy=None):
    """A token for `resource` that expires `lifetime` seconds from now; a negative one has expired. A service's names its policy."""
    sr, se = quote(resource, safe=""), str(int(time.time()) + lifetime)
    return f"SharedAccessSignature sr={sr}&sig={quote(sign(key, f'{sr}{chr(10)}{se}'), safe='')}&se={se}" + (
        f"&skn={policy}" if policy else ""
    )


def fields(text):
    """The fields of a token as they stand in it."""
    scheme, _, rest = text.partition(" ")
    assert scheme == "SharedAccessSignature", text
    return dict(pair.split("=", 1) for pair in rest.split("&"))


def is_signed_by(text, key):
    """Whether a token carries the signature that `key` gives."""
    found = fields(text)
    return unquote(found["sig"]) == sign(key, f"{found['sr']}\n{found['se']}")


def device_key(group_key, registration_id):
    """The key of a device in an enrollment group."""
    return sign(group_key, registration_id)
