"""The configuration of Patroni and etcd. `make chaos ARGS="--cluster --patroni"` runs them."""

from __future__ import annotations

import ipaddress
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.cluster import patroni_programs
from tests.cluster.etcd import EtcdGroup
from tests.cluster.network import Host
from tests.cluster.patroni_member import Member

pytestmark = pytest.mark.once

NETWORK = "10.214.7.0/24"
ETCD = ["10.214.7.3:2379", "10.214.7.4:2379", "10.214.7.5:2379"]


def host(number: int) -> Host:
    """Name and address of a host, without a network."""
    return cast(Host, SimpleNamespace(name=f"host-{number}", address=f"10.214.7.{number}"))


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(host(1), tmp_path, "secret")


@pytest.fixture
def configuration(member: Member) -> dict[str, Any]:
    return member.configuration(Path("/programs"), etcd=ETCD, network=NETWORK)


class TestTheConfigurationOfAMember:
    def test_keeps_patronis_rule_for_lease_and_loop(self, configuration: dict[str, Any]):
        """Patroni changes values that break it."""
        dynamic = configuration["bootstrap"]["dcs"]

        assert dynamic["ttl"] >= 20
        assert dynamic["loop_wait"] + 2 * dynamic["retry_timeout"] <= dynamic["ttl"]

    def test_begins_with_synchronous_replication_and_pg_rewind(self, configuration: dict[str, Any]):
        dynamic = configuration["bootstrap"]["dcs"]

        assert dynamic["synchronous_mode"] is True
        assert dynamic["postgresql"]["use_pg_rewind"] is True

    def test_binds_to_its_host_and_to_loopback_only(self, configuration: dict[str, Any]):
        places = [configuration["restapi"]["listen"], configuration["postgresql"]["listen"]]

        assert places == ["10.214.7.1:8008", "127.0.0.1,10.214.7.1:5432"]
        parameters = configuration["bootstrap"]["dcs"]["postgresql"]["parameters"]
        assert parameters["unix_socket_directories"] == ""

    def test_lets_nobody_in_without_a_password(self, configuration: dict[str, Any]):
        rules = [rule.split() for rule in configuration["postgresql"]["pg_hba"]]

        assert {method for *_rest, method in rules} == {"scram-sha-256"}
        own = [ipaddress.ip_network(NETWORK), ipaddress.ip_network("127.0.0.1/32")]
        assert all(ipaddress.ip_network(rule[3]) in own for rule in rules)

    def test_names_each_member_of_etcd(self, configuration: dict[str, Any]):
        assert configuration["etcd3"] == {"hosts": ETCD}


class TestThePromotionOfAMember:
    def run(self, configuration: dict[str, Any]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(shlex.split(configuration["postgresql"]["pre_promote"]))

    def test_goes_on_at_once(self, member: Member, configuration: dict[str, Any]):
        assert self.run(configuration).wait() == 0
        assert not member.held.exists()

    def test_waits_while_it_is_held(self, member: Member, configuration: dict[str, Any]):
        member.hold.touch()
        running = self.run(configuration)
        while not member.held.exists():
            assert running.poll() is None

        assert running.poll() is None
        member.hold.unlink()
        assert running.wait() == 0


class TestAMemberOfEtcd:
    def test_binds_to_its_host_only(self, tmp_path: Path):
        hosts = [host(number) for number in (3, 4, 5)]

        command = EtcdGroup(hosts, tmp_path).command(hosts[1])

        listens = [one for one in command if one.startswith("--listen-")]
        assert len(listens) == 2
        assert all("//10.214.7.4:" in one for one in listens)

    def test_knows_all_three(self, tmp_path: Path):
        hosts = [host(number) for number in (3, 4, 5)]

        (line,) = (
            one for one in EtcdGroup(hosts, tmp_path).command(hosts[0]) if "-cluster=" in one
        )

        assert re.findall(r"host-\d", line) == ["host-3", "host-4", "host-5"]
        assert EtcdGroup(hosts, tmp_path).places == ETCD


class TestThePrograms:
    def test_that_are_missing_are_named_in_one_sentence(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(patroni_programs.NoPatroni) as error:
            patroni_programs.require_system_programs()

        assert str(error.value) == "--patroni needs etcd: apt-get install etcd-server."

    def test_without_a_package_index_leave_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setattr(patroni_programs, "_INSTALLED", tmp_path)

        with pytest.raises(patroni_programs.NoPatroni, match="pip cannot install"):
            patroni_programs.packages()

        assert list(tmp_path.iterdir()) == []
