"""What a process spares that drives a run."""

import platform
import subprocess
import sys

import pytest


def test_pandas_is_loaded_for_a_frame_and_for_nothing_else() -> None:
    """In a process of its own: half a second and 40 MB that no command pays which drives a run."""
    program = """if True:
        import sys
        from pipeline import tables
        from pipeline.frugal import be_frugal
        be_frugal()
        schema = tables.index_schema([])
        table = tables.from_parquet(tables.to_parquet([{"key": "sku-1", "usd": 0.039}], schema))
        assert "pandas" not in sys.modules
        assert table.to_pandas().usd.tolist() == [0.039]
        be_frugal()
        import pandas
        assert pandas.DataFrame({"a": [1]}).a.tolist() == [1]
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_arrow_has_no_heap_of_its_own_in_a_command() -> None:
    """Neither what Python asks of it nor what reads files inside: that is chosen once, when it is loaded."""
    program = """if True:
        import sys
        from pipeline.cli import main
        sys.argv = ["nightshoot", "--version"]
        try:
            main()
        except SystemExit:
            pass
        assert "pyarrow" not in sys.modules
        import pyarrow
        assert pyarrow.default_memory_pool().backend_name == "system"
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is glibc's")
def test_room_for_a_picture_is_asked_for_once_and_not_for_each() -> None:
    """Two hundred pictures, one after the other: the system hands out the pages of a few."""
    program = """if True:
        import resource
        from pipeline.frugal import be_frugal
        be_frugal()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(200):
            bytes(bytearray(2_000_000))
        pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        assert pages < 20 * 2 * 2_000_000 // resource.getpagesize(), pages
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
