# Type checkers read an installed module that is no package only by its stub.

from pipeline import __version__ as __version__
from pipeline.errors import BadInput as BadInput
from pipeline.errors import Corrupt as Corrupt
from pipeline.errors import Denied as Denied
from pipeline.errors import NightshootError as NightshootError
from pipeline.errors import Refused as Refused
from pipeline.errors import Unavailable as Unavailable
from pipeline.notebook import Job as Job
from pipeline.notebook import Plan as Plan
from pipeline.notebook import Price as Price
from pipeline.notebook import Run as Run
from pipeline.notebook import Spending as Spending
from pipeline.notebook import Status as Status
from pipeline.notebook import job as job
from pipeline.notebook import open_run as open_run
