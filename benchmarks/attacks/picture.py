def draw(r, p):
    pass


def draw_times(r, p):
    pass
