"""Where alerts go: a webhook, a file and e-mail, each if its variable is set.

Addresses hold secrets, those of webhooks even in their path: messages here name the variable and the host, and quote
no library.
"""

import json
import os
import smtplib
import ssl
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from recsys_assets.alerts.alert import Alert
from recsys_assets.datasets.disk import private_folder

Send = Callable[[Alert], None]
SECONDS = 10.0  # for an answer; a sensor has a minute for all of its work
HERE = ("127.0.0.1", "::1", "localhost")


class AlertNotDelivered(RuntimeError):
    """A place did not take an alert; the message names the setting and the host, and no secret."""


def channels(places: Mapping[str, str]) -> dict[str, Send]:
    """How an alert is sent to each of the places of `Settings.alerts`."""
    kinds = {"RECSYS_ALERT_WEBHOOK": _post, "RECSYS_ALERT_FILE": _append, "RECSYS_ALERT_SMTP": _mail}
    return {name: partial(kinds[name], place) for name, place in places.items()}


def _post(url: str, alert: Alert) -> None:
    """Post the alert as JSON."""
    import requests  # its import takes as long as a tenth of the definitions

    host = _host("RECSYS_ALERT_WEBHOOK", url, "https", "http").hostname
    try:
        answer = requests.post(url, json=alert.content(), timeout=SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        raise AlertNotDelivered(f"RECSYS_ALERT_WEBHOOK: {host} cannot be reached: {type(error).__name__}") from None
    if not answer.ok or answer.is_redirect:
        raise AlertNotDelivered(f"RECSYS_ALERT_WEBHOOK: {host} answered {answer.status_code}")


def _append(path: str, alert: Alert) -> None:
    """Append the alert as a line of JSON, and wait until it is on the disk."""
    try:
        private_folder(Path(path).absolute().parent)
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(alert.content(), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AlertNotDelivered(f"RECSYS_ALERT_FILE: {path} cannot be written: {error.strerror or error}") from None


def _mail(url: str, alert: Alert) -> None:
    """Send the alert by a server such as `smtps://user:password@host:465/?from=a@b&to=c@d,e@f`.

    With `smtp://` the connection is encrypted before a password is sent (STARTTLS).
    """
    place = _host("RECSYS_ALERT_SMTP", url, "smtp", "smtps")
    options = parse_qs(place.query)
    if not {"from", "to"} <= options.keys():
        raise AlertNotDelivered("RECSYS_ALERT_SMTP: add ?from=ADDRESS&to=ADDRESS, with commas between several")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = options["from"][0], options["to"][0], alert.title
    mail["Message-ID"] = f"<{alert.key.replace(' ', '.')}@recsys-assets>"  # a second copy is recognised
    mail.set_content(alert.content()["text"])
    try:
        with _connect(place) as server:
            if place.username:
                server.login(unquote(place.username), unquote(place.password or ""))
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        said = f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".strip()
        raise AlertNotDelivered(f"RECSYS_ALERT_SMTP: {place.hostname} did not take the mail: {said}") from None


def _connect(place: SplitResult) -> smtplib.SMTP:
    """A connection that may carry a password: encrypted, or within this machine."""
    host, context = place.hostname or "", ssl.create_default_context()
    if place.scheme == "smtps":
        return smtplib.SMTP_SSL(host, place.port or 465, timeout=SECONDS, context=context)
    server = smtplib.SMTP(host, place.port or 587, timeout=SECONDS)
    if host not in HERE:
        server.starttls(context=context)
    return server


def _host(variable: str, url: str, *schemes: str) -> SplitResult:
    """The parts of an address with one of these schemes."""
    try:
        place = urlsplit(url)
        if place.scheme in schemes and place.hostname and place.port != 0:
            return place
    except ValueError:  # a port that is not a number, or a broken IPv6 address
        pass
    raise AlertNotDelivered(f"{variable} is not an address that begins with {schemes[0]}://: correct it")
