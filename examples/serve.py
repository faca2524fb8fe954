"""Answer posts over HTTP with one model, or one of entities and one of relations; needs the extra `serve`.

    python examples/serve.py --model runs/quickstart
    curl -F 'text=who else loves Camelot ?' -F image=@camelot.png http://127.0.0.1:8000/extract

`--help` lists all options. The code: modeling_i2srm/cli/serve.py.
"""

from modeling_i2srm.cli.scripts import run

if __name__ == "__main__":
    run("cli.serve")
