"""Plain MQTT clients of the system, with a token made on the command line: nothing of an SDK is needed."""

import json
import subprocess

from server import primary_key
from test_telemetry import body_of


def run(server, program, *args):
    """Runs a mosquitto client against the server; gives its standard output."""
    line = [program, "-h", server.address, "-p", "8883", "--cafile", str(server.ca), "-V", "mqttv311", "-q", "1", *args]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{program}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_registration_in_one_command_then_telemetry(server, tool):
    mosquitto_rr, mosquitto_pub = tool("mosquitto_rr", "mosquitto-clients"), tool("mosquitto_pub", "mosquitto-clients")
    key = primary_key(server.enroll("plain-1"))

    token = server.command("sas", "--key", key, "--resource", f"{server.id_scope}/registrations/plain-1").strip()
    answer = run(
        *(server, mosquitto_rr, "-i", "plain-1", "-W", "20", "-P", token),
        *("-u", f"{server.id_scope}/registrations/plain-1/api-version=2019-03-31"),
        *("-t", "$dps/registrations/PUT/iotdps-register/?$rid=1", "-m", '{"registrationId":"plain-1"}'),
        *("-e", "$dps/registrations/res/200/?$rid=1"),
    )
    state = json.loads(answer)["registrationState"]
    assert (state["status"], state["deviceId"], state["assignedHub"]) == ("assigned", "plain-1", server.address)

    hub = state["assignedHub"]
    token = server.command("sas", "--key", key, "--resource", f"{hub}/devices/plain-1").strip()
    run(
        *(server, mosquitto_pub, "-i", "plain-1", "-P", token),
        *("-u", f"{hub}/plain-1/?api-version=2020-09-30"),
        *("-t", "devices/plain-1/messages/events/%24.ct=text%2Fplain&site=south", "-m", "hello"),
    )
    [record] = server.tail()
    assert (record["device"], body_of(record)) == ("plain-1", "hello")
    assert record["properties"] == {"site": "south"}
    assert record["system_properties"]["content-type"] == "text/plain"
