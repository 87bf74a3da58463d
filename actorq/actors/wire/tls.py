"""The certificate by which the nodes of a run authenticate each other over TLS."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass, field

SERVER_NAME = "actorq"
"""The name in every certificate of a run: peers are trusted by the authority's signature, not by host name.
"""


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate for mutual TLS, as PEM texts."""

    certificate: str
    key: str = field(repr=False)
    authority: str
    """Certificate of the authority that signed this one, and must have signed the peer's."""

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Context for streams between processes of the run: both ends must present a certificate of its
        authority.

        Clients give SERVER_NAME as the server's name. Raises ssl.SSLError if the texts are no certificates.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_3
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=self.authority)
        with tempfile.NamedTemporaryFile("w", prefix="actorq-") as file:  # its mode is 0600
            file.write(self.certificate + self.key)
            file.flush()
            made.load_cert_chain(file.name)
        return made
