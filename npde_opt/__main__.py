"""`python -m npde_opt COMMAND`: what is installed and does it work (`doctor`), is a case well posed
(`check`), what does a trained network make of new samples (`predict`)."""

from __future__ import annotations

import sys

from npde_opt import alone

USAGE = """usage: python -m npde_opt COMMAND ...

  doctor        what is installed, what is wrong with it and what to do about it
  check CASE    read a case (TOML), build its grid and equation, and say what a run would need
  predict MODEL FILES
                what a trained network makes of pictures, arrays and rows of tables
  export MODEL FILE
                a trained network as a state_dict of PyTorch (.pt) or for ONNX (.onnx)
  --version     which version this is
"""


def main(argv: list[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv else ("", [])
    if command in ("check", "predict", "export"):
        alone.start_mpi()
    if command == "doctor":
        from npde_opt.doctor import main as doctor_main

        return doctor_main(rest)
    if command == "check":
        from npde_opt.training.check import is_training
        from npde_opt.training.check import main as check_training

        if is_training(rest):
            return check_training(rest)
        from npde_opt.cases import check_main

        return check_main(rest) or 0
    if command == "predict":
        from npde_opt.training.predict import main as predict_main

        return predict_main(rest)
    if command == "export":
        from npde_opt.training.export import main as export_main

        return export_main(rest)
    if command == "--version":
        from npde_opt import __version__

        print(f"npde_opt {__version__}")
        return 0
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    print(
        f"no such command: {command}\n" if command else "",
        USAGE,
        sep="",
        end="",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
