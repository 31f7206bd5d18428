"""Records of the component tests are copies of one that was migrated once."""

from tests.support.migrated import migrated_once

__all__ = ["migrated_once"]
