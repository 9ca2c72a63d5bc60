"""Print what is still to be done and the time, memory and disk that it takes.

In: the jobs of a dry run, a line of JSON each, on standard input. Out: a table, on standard output.
"""

import json
import sys

from quern import command
from quern.cost import plan


def main(arguments):
    jobs = [plan.Job.of(json.loads(line)) for line in sys.stdin]
    found = plan.plan_of(jobs, arguments.local, arguments.temporary)
    print(plan.text(found, arguments.notes))


if __name__ == "__main__":
    p = command.parser(__doc__.splitlines()[0])
    p.add_argument("--local", nargs="*", default=[], help="rules whose jobs are not submitted")
    p.add_argument("--temporary", nargs="*", default=[], help="rules whose output is removed again")
    p.add_argument("--notes", nargs="*", default=[], help="sentences to print below the table")
    command.run(main, p.parse_args())
