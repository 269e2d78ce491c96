"""A factory's certificates, made by the openssl command: what devices in the field have."""

import subprocess

ALGORITHMS = {
    "p256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa2048": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "rsa4096": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    "ed25519": ["-algorithm", "ED25519"],
}

AUTHORITY = "basicConstraints=critical,CA:TRUE{path}\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
DEVICE = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n"


class Factory:
    """Makes keys and certificates in a directory."""

    def __init__(self, find, directory):
        self.openssl = find("openssl", "openssl")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def run(self, *args, stdin=None):
        """Runs openssl; gives its standard output."""
        done = subprocess.run([self.openssl, *map(str, args)], cwd=self.directory, input=stdin, capture_output=True)
        assert done.returncode == 0, f"openssl {args}: {done.stderr.decode()}"
        return done.stdout

    def key(self, name, algorithm="p256"):
        """A private key, NAME.key."""
        path = self.directory / f"{name}.key"
        self.run("genpkey", *ALGORITHMS[algorithm], "-out", path)
        return path

    def certificate(self, name, subject, issuer=None, extensions=DEVICE, days=30, key=None, algorithm="p256"):
        """A certificate, NAME.pem, over a new key or `key`; self-signed without an issuer."""
        key = key or self.key(name, algorithm)
        request, path, config = (self.directory / f"{name}{end}" for end in (".csr", ".pem", ".ext"))
        config.write_text(extensions)
        self.run("req", "-new", "-key", key, "-subj", subject, "-out", request)
        sign = ["-signkey", key] if issuer is None else ["-CA", self.pem(issuer), "-CAkey", self.directory / f"{issuer}.key"]
        serial = ["-set_serial", f"0x{self.serial(name):x}"]
        digest = [] if algorithm == "ed25519" and issuer is None else ["-sha256"]
        self.run("x509", "-req", "-in", request, *sign, *serial, *digest, "-days", days, "-extfile", config, "-out", path)
        return path

    @staticmethod
    def serial(name):
        """A serial number that follows from the name."""
        return int.from_bytes(name.encode()[:12], "big") | 1

    def pem(self, name):
        """Where a certificate is."""
        return self.directory / f"{name}.pem"

    def authority(self, name, issuer=None, path_length=None, **options):
        """A certificate authority."""
        path = "" if path_length is None else f",pathlen:{path_length}"
        return self.certificate(name, f"/CN={name}", issuer, AUTHORITY.format(path=path), **options)

    def device(self, name, issuer, chain=(), **options):
        """A device's certificate with the given intermediates behind it: chain file and key."""
        leaf = self.certificate(name, f"/CN={name}", issuer, **options)
        bundle = self.directory / f"{name}-chain.pem"
        bundle.write_text("".join(path.read_text() for path in [leaf, *map(self.pem, chain)]))
        return bundle, options.get("key") or self.directory / f"{name}.key"

    def expired_device(self, name, issuer, chain=()):
        """A device's certificate that ended years ago; `x509 -days` can only look ahead."""
        key, folder = self.key(name), self.directory / f"{issuer}-past"
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1001\n")
        config = folder / "ca.cnf"
        config.write_text(
            f"[ca]\ndefault_ca=x\n[x]\ndatabase={folder}/index.txt\nserial={folder}/serial\nnew_certs_dir={folder}\n"
            f"default_md=sha256\ncertificate={self.pem(issuer)}\nprivate_key={self.directory / (issuer + '.key')}\n"
            f"policy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\n{DEVICE}"
        )
        request = self.directory / f"{name}.csr"
        self.run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        self.run("ca", "-batch", "-notext", "-config", config, *dates, "-in", request, "-out", self.pem(name))
        bundle = self.directory / f"{name}-chain.pem"
        bundle.write_text("".join(path.read_text() for path in [self.pem(name), *map(self.pem, chain)]))
        return bundle, key

    def fingerprint(self, name):
        """SHA-256 of a certificate's SubjectPublicKeyInfo."""
        import hashlib

        public = self.run("x509", "-in", self.pem(name), "-noout", "-pubkey")
        return hashlib.sha256(self.run("pkey", "-pubin", "-outform", "DER", stdin=public)).hexdigest()

    def revocation_list(self, issuer, *names, days=30):
        """The issuer's revocation list with these certificates on it."""
        folder = self.directory / f"{issuer}-db"
        folder.mkdir(exist_ok=True)
        index, number, config = folder / "index.txt", folder / "crlnumber", folder / "ca.cnf"
        index.touch()
        if not number.exists():
            number.write_text("1000\n")
        config.write_text(
            f"[ca]\ndefault_ca=x\n[x]\ndatabase={index}\ncrlnumber={number}\ndefault_md=sha256\n"
            f"certificate={self.pem(issuer)}\nprivate_key={self.directory / (issuer + '.key')}\n"
        )
        for name in names:
            self.run("ca", "-config", config, "-revoke", self.pem(name))
        path = self.directory / f"{issuer}.crl"
        self.run("ca", "-config", config, "-gencrl", "-crldays", days, "-out", path)
        return path
