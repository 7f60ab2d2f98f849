"""Safety parts at the edge of the shop: server, proxies, limits, files."""

from __future__ import annotations

from tests.mutants.mutant import Edit, Mutant

SERVER = "tests/shop/test_web_server.py::"
PROXIES = "tests/shop/test_proxies.py::"
GUESSING = "tests/shop/test_guessing.py::"
URL_CHECKS = "tests/webhooks/test_url_checks.py::"
SESSIONS = "tests/shop/test_sessions.py::TestASession::"

EDGE = [
    Mutant(
        name="slow-clients",
        without="a thread waits for the bytes of each request",
        edits=(Edit("gunicorn.conf.py", '"shop.server.Worker"', '"gthread"'),),
        noticed_by=(f"{SERVER}TestFiveHundredSlowClients::test_do_not_delay_other_clients",),
        hangs=True,
    ),
    Mutant(
        name="time-of-a-request",
        without="a client that sends a byte now and then may take for ever",
        edits=(
            Edit(
                "shop/server.py",
                "now - self.receiving_since > settings.REQUEST_SECONDS",
                "now - self.last_activity > settings.REQUEST_SECONDS",
            ),
        ),
        noticed_by=(
            f"{SERVER}TestTheTimeLimitOfAClient::test_applies_although_single_bytes_arrive",
        ),
        hangs=True,
    ),
    Mutant(
        name="one-request-at-a-time",
        without="the responses to many requests wait for a client that reads none of them",
        edits=(Edit("shop/server.py", "    parser_class = Parser\n", ""),),
        noticed_by=(
            f"{SERVER}TestFiveHundredSlowClients"
            "::test_that_read_no_answers_do_not_delay_other_clients",
        ),
        hangs=True,
    ),
    Mutant(
        name="idle-connections",
        without="an idle connection stays open for ever",
        edits=(
            Edit(
                "shop/server.py",
                "return bool(now - self.last_activity > idle_seconds)",
                "return False",
            ),
        ),
        noticed_by=(f"{SERVER}TestTheTimeLimitOfAClient::test_applies_to_idle_connections",),
        hangs=True,
    ),
    Mutant(
        name="idle-give-way",
        without="idle connections keep others out, however many there are",
        edits=(
            Edit(
                "shop/server.py",
                "TICK if is_crowded else self.cfg.keepalive",
                "self.cfg.keepalive",
            ),
        ),
        noticed_by=(f"{SERVER}TestMoreClientsThanConnections::test_are_served_in_turn",),
        hangs=True,
    ),
    Mutant(
        name="end-of-a-stop",
        without="a stop cuts off the requests in progress",
        edits=(Edit("shop/server.py", "        self._drain()\n", ""),),
        noticed_by=(f"{SERVER}TestAStop::test_completes_requests_in_progress",),
    ),
    Mutant(
        name="length-of-a-body",
        without="a body of any length is read",
        edits=(
            Edit("shop/server.py", "settings.MOST_BODY_BYTES + 1", "1 << 30"),
            Edit("shop/middleware.py", "> settings.DATA_UPLOAD_MAX_MEMORY_SIZE", "> 1 << 30"),
        ),
        noticed_by=(
            f"{SERVER}TestABody::test_of_a_hundred_megabytes_is_refused_without_reading",
            f"{SERVER}TestABody::test_in_chunks_is_refused_above_the_limit",
        ),
        hangs=True,
    ),
    Mutant(
        name="no-files",
        without="a file is parsed, and stored in a temporary folder, for a page that takes none",
        edits=(Edit("shop/middleware.py", 'if kind.startswith("multipart/"):', "if False:"),),
        noticed_by=(f"{SERVER}TestABody::test_of_a_file_is_refused_and_leaves_no_file",),
    ),
    Mutant(
        name="path-as-it-was-sent",
        without="leading slashes are merged, past a proxy's rule about a path",
        edits=(Edit("shop/server.py", '        environ["PATH_INFO"] = self.request.path\n', ""),),
        noticed_by=(
            f"{SERVER}TestAHeader::test_is_not_needed_to_find_the_sign_in_under_another_path",
        ),
    ),
    Mutant(
        name="headers-of-strangers",
        without="forwarding headers are believed whoever sends them",
        edits=(Edit("shop/proxies.py", "and trusted_proxies().has(peer):", "and True:"),),
        noticed_by=(
            f"{PROXIES}TestAnUntrustedPeer::test_is_the_client_and_its_headers_are_dropped",
        ),
    ),
    Mutant(
        name="from-the-right",
        without="the client is the leftmost address, which it writes itself",
        edits=(
            Edit(
                "shop/proxies.py",
                "        if not trusted_proxies().has(client):\n            break\n",
                "",
            ),
        ),
        noticed_by=(
            f"{PROXIES}TestTheClientOf::test_each_documented_proxy_is_the_address_in_its_header",
            f"{GUESSING}TestAGuesserOfTokens::test_behind_a_proxy_is_throttled_alone",
            f"{GUESSING}TestAGuesserOfPasswords::test_behind_a_proxy_is_locked_out_alone",
        ),
    ),
    Mutant(
        name="network-of-ipv6",
        without="each address of one IPv6 network is a client of its own",
        edits=(Edit("api/addresses.py", "IPV6_PREFIX = 64", "IPV6_PREFIX = 128"),),
        noticed_by=(
            f"{GUESSING}TestAGuesserOfTokens::test_with_a_network_of_ipv6_is_one_client",
            f"{GUESSING}TestAGuesserOfPasswords::test_with_a_network_of_ipv6_is_one_client",
        ),
    ),
    Mutant(
        name="right-token-first",
        without="an address that sent wrong tokens is refused with a right one, too",
        edits=(
            Edit(
                "api/tokens.py",
                "        known = find_token(token.strip())\n",
                "        WrongTokenThrottle().count(request)\n"
                "        known = find_token(token.strip())\n",
            ),
        ),
        noticed_by=(f"{GUESSING}TestAGuesserOfTokens::test_does_not_block_valid_tokens",),
    ),
    Mutant(
        name="no-resolver-in-a-request",
        without="a request waits until a name server answers",
        edits=(
            Edit(
                "webhooks/serializers.py",
                "            require_allowed(url)\n",
                "            require_allowed(url)\n"
                "            __import__('socket').getaddrinfo(url.split('/')[2], 443)\n",
            ),
        ),
        noticed_by=(f"{URL_CHECKS}TestARequest::test_resolves_no_name",),
        hangs=True,
    ),
    Mutant(
        name="check-disables",
        without="an endpoint whose host leads inside stays enabled",
        edits=(
            Edit(
                "webhooks/url_checks.py",
                "    if result.state is UrlState.REFUSED and endpoint.enabled:",
                "    if False:",
            ),
        ),
        noticed_by=(
            f"{URL_CHECKS}TestACheck::test_disables_a_private_address_and_emails_the_owner",
        ),
    ),
    Mutant(
        name="checks-of-one-customer",
        without="the endpoints of one customer are looked up side by side",
        edits=(Edit("webhooks/handlers.py", "    share_window=1,\n", ""),),
        noticed_by=(f"{URL_CHECKS}TestChecksOfOneCustomer::test_run_one_at_a_time",),
    ),
    Mutant(
        name="end-of-a-session",
        without="a session lasts however long ago its sign-in was",
        edits=(
            Edit(
                "shop/sessions.py",
                "    is_old = now - began >= settings.SESSION_HOURS * 3600\n",
                "    is_old = False\n",
            ),
        ),
        noticed_by=(
            f"{SESSIONS}test_ends_twelve_hours_after_the_sign_in_however_often_it_is_used",
        ),
    ),
    Mutant(
        name="end-of-an-idle-session",
        without="a session lasts although nobody uses it",
        edits=(
            Edit(
                "shop/sessions.py",
                "now - session.get(SEEN, began) >= settings.SESSION_IDLE_MINUTES * 60",
                "False",
            ),
        ),
        noticed_by=(f"{SESSIONS}test_ends_an_hour_after_the_last_request",),
    ),
    Mutant(
        name="mode-of-the-database",
        without="others on the machine can read the database of `make up`, and the bank's",
        edits=(
            Edit(
                "shared/private_files.py",
                "os.O_CREAT | os.O_RDWR, 0o600",
                "os.O_CREAT | os.O_RDWR, 0o644",
            ),
            Edit("shared/private_files.py", "& 0o700)", "& 0o777)"),
        ),
        noticed_by=(
            "tests/shop/test_settings.py::TestTheDatabaseFile"
            "::test_is_readable_by_its_owner_only_with_its_journals",
            "tests/payments/test_simulator.py::TestTheFile::test_is_readable_by_its_owner_only",
        ),
    ),
    Mutant(
        name="errors-of-clients",
        without="a wrong host name is an error of ours, with a traceback",
        edits=(
            Edit(
                "shop/settings/logs.py",
                '["correlation", "client_errors", "personal_data"]',
                '["correlation", "personal_data"]',
            ),
        ),
        noticed_by=("tests/shop/test_logs.py::TestAClientError::test_is_a_warning_of_one_line",),
    ),
]
