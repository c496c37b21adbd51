"""Which cells of a lesson can run in a browser: told from what the cells before them define, statement by statement."""

import ast
import copy
import symtable

from course.browser.names import imported, lacks_in_use, place_of


class Known:
    """What the names of a notebook are after some of its cells.

    Attributes:
        places: {imported name: the `Place` it comes from}.
        lost: {name that only a cell defines which is left out: what is needed for it}.
    """

    def __init__(self):
        self.places, self.lost = {}, {}

    def lacked_by(self, statements):
        """What a cell needs and a browser does not have."""
        trial, found = copy.deepcopy(self), set()
        for node in statements:
            found |= trial.lacked_by_one(node)
            trial.run([node])
        return found

    def lacked_by_one(self, node):
        read, _ = names_of(node)
        used = [self.places[name] for name in read if name in self.places]
        for part in ast.walk(node):
            if isinstance(part, ast.Import | ast.ImportFrom):
                used += imported(part).values()
            elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in self.places:
                place = self.places[part.value.id]
                used += [place_of(place.module, part.attr)] if place.name is None else []
        return set().union(*(self.lost.get(name, ()) for name in read), *map(lacks_in_use, used))

    def run(self, statements):
        """Note what a cell defines that is kept."""
        for node in statements:
            self.forget(names_of(node)[1])
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.places |= imported(node)

    def leave_out(self, statements, needed):
        """Note what nothing defines, because a cell is left out."""
        for node in statements:
            names = names_of(node)[1]
            self.forget(names)
            self.lost |= dict.fromkeys(names, frozenset(needed))

    def forget(self, names):
        for name in names:
            self.places.pop(name, None)
            self.lost.pop(name, None)

    def kept_of(self, source):
        """The statements of a cell that can run, an import for each imported name; the others are left out."""
        kept = []
        for node in ast.parse(source).body:
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            for each in one_by_one(node) if is_import else [node]:
                if needed := self.lacked_by_one(each):
                    self.leave_out([each], needed)
                else:
                    self.run([each])
                    kept.append(ast.unparse(each) if is_import else ast.get_source_segment(source, each))
        return kept


def one_by_one(node):
    """An import statement for each name that one imports."""
    for each in node.names:
        single = copy.copy(node)
        single.names = [each]
        yield single


def names_of(node):
    """(names that a statement reads from its notebook, names that it defines there)."""
    table = symtable.symtable(ast.unparse(node), "cell", "exec")
    symbols = table.get_symbols()
    defined = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    read = {symbol.get_name() for symbol in symbols if symbol.is_referenced()} | read_inside(table)
    changed = [part.target for part in ast.walk(node) if isinstance(part, ast.AugAssign)]
    return read | {target.id for target in changed if isinstance(target, ast.Name)}, defined


def read_inside(table):
    """The names of the notebook that are read inside of the functions of a statement."""
    found = set()
    for child in table.get_children():
        found |= {symbol.get_name() for symbol in child.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        found |= read_inside(child)
    return found


def read_by(sources):
    """All names that some cells read."""
    return set().union(*(names_of(node)[0] for source in sources for node in ast.parse(source).body))
