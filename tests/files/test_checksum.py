import hashlib
import json

import pytest

from recon.files.checksum import check_seal, checksum, sealed

RECORD = {"metrics": {"digit": {"accuracy": 0.1 + 0.2}}, "counts": [1, 2**53], "nothing": None, "name": "é"}


def test_the_checksum_is_the_sha256_of_the_compact_json_with_sorted_keys() -> None:
    text = '{"counts":[1,9007199254740992],"metrics":{"digit":{"accuracy":0.30000000000000004}},"name":"\\u00e9",'
    text += '"nothing":null}'
    assert checksum(RECORD) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_a_sealed_record_is_known_after_it_was_written_and_read() -> None:
    assert check_seal(json.loads(json.dumps(sealed(RECORD), indent=2)))
    assert sealed(sealed(RECORD)) == sealed(RECORD)
    assert not check_seal(RECORD)


@pytest.mark.parametrize("change", [{"counts": [1, 2**53 + 1]}, {"name": "e"}, {"more": 0}, {"nothing": False}])
def test_another_value_is_noticed(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="damaged or edited"):
        check_seal({**sealed(RECORD), **change})


def test_a_checksum_of_another_kind_is_noticed() -> None:
    with pytest.raises(ValueError, match="damaged or edited"):
        check_seal({**RECORD, "checksum": None})


def test_what_json_has_no_number_for_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        checksum({"loss": float("nan")})
